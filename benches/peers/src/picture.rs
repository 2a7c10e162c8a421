//! The README's picture: a bar for each case and peer, from 1 to the ratio. Its background is transparent, and its
//! colours are read on white as on black.

use std::error::Error;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::readme::{CASES, Results, bars, shown};

const WIDTH: u32 = 860;
/// Of a bar, of the space after a peer's bars, of a line of the legend, and of the axis below, in pixels.
const BAR: u32 = 15;
const GAP: u32 = 12;
const LEGEND: u32 = 20;
const AXIS: u32 = 44;
const PEER_NAMES: u32 = 90;

const GREY: RGBColor = RGBColor(0x79, 0x79, 0x79);
/// One for each case that the picture may show.
const COLOURS: [RGBColor; CASES.len()] = [
    RGBColor(0x3b, 0x82, 0xc4),
    RGBColor(0xb3, 0x70, 0x2a),
    RGBColor(0x8f, 0x78, 0x30),
    RGBColor(0xc0, 0x60, 0x80),
    RGBColor(0x3f, 0x91, 0x57),
    RGBColor(0xb0, 0x5c, 0x7e),
    RGBColor(0x5a, 0x9e, 0x5a),
    RGBColor(0x9a, 0x6f, 0xc4),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error>>;

pub fn draw(results: &Results) -> Result<String, Box<dyn Error>> {
    let peers: Vec<_> = bars(results).into_iter().filter(|(_, bars)| !bars.is_empty()).collect();
    let ratios = || peers.iter().flat_map(|(_, bars)| bars.iter().map(|&(_, ratio)| ratio));
    // Room for the figures beyond the bars.
    let (least, most) = (ratios().fold(0.5, f64::min) / 1.7, ratios().fold(2.0, f64::max) * 1.7);
    let rows: u32 = peers.iter().map(|(_, bars)| bars.len() as u32 * BAR + GAP).sum();
    let legend = LEGEND * CASES.iter().filter(|case| case.in_picture).count() as u32 + GAP;

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, legend + rows + AXIS)).into_drawing_area();
        let (top, below) = root.split_vertically(legend);
        draw_legend(&top)?;
        let mut chart = ChartBuilder::on(&below)
            .set_label_area_size(LabelAreaPosition::Bottom, AXIS)
            .set_label_area_size(LabelAreaPosition::Left, PEER_NAMES)
            .build_cartesian_2d((least..most).log_scale(), f64::from(rows)..0.0)?;
        draw_scale(&below, &chart, least, most, rows)?;
        let mut y = GAP / 2;
        for (peer, bars) in &peers {
            draw_peer(&below, &mut chart, y, peer, bars)?;
            y += bars.len() as u32 * BAR + GAP;
        }
        root.present()?;
    }
    Ok(svg)
}

fn text(size: i32, horizontal: HPos, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour).pos(Pos::new(horizontal, VPos::Center))
}

fn draw_legend(area: &Area) -> Drawn {
    let shown = CASES.iter().zip(COLOURS).filter(|(case, _)| case.in_picture);
    for (line, (case, colour)) in shown.enumerate() {
        let (x, y) = (PEER_NAMES as i32, line as i32 * LEGEND as i32 + LEGEND as i32 / 2);
        area.draw(&Rectangle::new([(x, y - 6), (x + 12, y + 6)], colour.filled()))?;
        area.draw(&Text::new(case.words, (x + 20, y), text(17, HPos::Left, GREY)))?;
    }
    Ok(())
}

/// Lines at round ratios, the one at 1 stronger, and what they mean.
fn draw_scale(area: &Area, chart: &Chart, least: f64, most: f64, rows: u32) -> Drawn {
    let bottom = rows as i32;
    for ratio in [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0] {
        if ratio < least || ratio > most {
            continue;
        }
        let (x, _) = chart.backend_coord(&(ratio, 0.0));
        let x = x - area.get_base_pixel().0;
        let line = GREY.mix(if ratio == 1.0 { 1.0 } else { 0.3 });
        area.draw(&PathElement::new([(x, 0), (x, bottom)], line))?;
        area.draw(&Text::new(ratio.to_string(), (x, bottom + 10), text(16, HPos::Center, GREY)))?;
    }
    let words =
        "bytepool's time divided by the other's, on a logarithmic scale: left of 1, bytepool takes less";
    let middle = ((PEER_NAMES + WIDTH) / 2) as i32;
    area.draw(&Text::new(words, (middle, bottom + 30), text(17, HPos::Center, GREY)))?;
    Ok(())
}

fn draw_peer(area: &Area, chart: &mut Chart, top: u32, peer: &str, bars: &[(usize, f64)]) -> Drawn {
    let middle = top as i32 + (bars.len() as u32 * BAR / 2) as i32;
    area.draw(&Text::new(peer.to_owned(), (PEER_NAMES as i32 - 8, middle), text(18, HPos::Right, GREY)))?;
    for (&(case, ratio), number) in bars.iter().zip(0..) {
        let y = f64::from(top + number * BAR);
        let corners = [(1.0, y + 2.0), (ratio, y + f64::from(BAR) - 1.0)];
        chart.draw_series([Rectangle::new(corners, COLOURS[case].filled())])?;
        let (side, away) = if ratio < 1.0 { (HPos::Right, -4) } else { (HPos::Left, 4) };
        let figure = EmptyElement::at((ratio, y + f64::from(BAR) / 2.0 + 0.5))
            + Text::new(shown(ratio), (away, 0), text(15, side, GREY));
        chart.draw_series([figure])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of the Web Content Accessibility Guidelines.
    fn luminance(colour: RGBColor) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.03928 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(colour.0) + 0.7152 * linear(colour.1) + 0.0722 * linear(colour.2)
    }

    fn contrast(a: RGBColor, b: RGBColor) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        if a > b { a / b } else { b / a }
    }

    #[test]
    fn readable_on_white_and_on_the_dark_of_the_usual_page() {
        for page in [WHITE, RGBColor(0x0d, 0x11, 0x17)] {
            // No colour has more than 4.4 on both.
            assert!(contrast(GREY, page) > 4.3, "text: {}", contrast(GREY, page));
            for colour in COLOURS {
                assert!(contrast(colour, page) > 3.0, "{colour:?}: {}", contrast(colour, page));
            }
        }
    }
}
