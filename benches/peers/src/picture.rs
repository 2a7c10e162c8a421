//! The README's picture: under a title, for each peer a bar for each case, from 1 to the ratio. Its background is
//! transparent, and its colours are read on white as on black.

use std::error::Error;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::readme::{Bars, Results, bars, shown};

const WIDTH: u32 = 860;
/// In pixels: the title with what it means, the legend, a group's head, a bar, the space after a peer's bars, and the
/// axis below.
const TITLE: u32 = 56;
const LEGEND: u32 = 26;
const HEAD: u32 = 26;
const BAR: u32 = 11;
const GAP: u32 = 7;
const AXIS: u32 = 24;
const PEER_NAMES: u32 = 150;

/// A peer's bars: one colour each, of the same meaning in C and in Rust.
const BARS: [&str; 3] = ["one buffer", "three out at once", "handed to another thread"];

const GREY: RGBColor = RGBColor(0x79, 0x79, 0x79);
const COLOURS: [RGBColor; BARS.len()] =
    [RGBColor(0x3b, 0x82, 0xc4), RGBColor(0xb3, 0x70, 0x2a), RGBColor(0x3f, 0x91, 0x57)];

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<LogCoord<f64>, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error>>;

pub fn draw(results: &Results) -> Result<String, Box<dyn Error>> {
    let groups: Vec<_> = bars(results).into_iter().filter(|(_, peers)| !peers.is_empty()).collect();
    let all_bars = || groups.iter().flat_map(|(_, peers)| peers.iter().flat_map(|(_, bars)| bars));
    let ratios = || all_bars().map(|&(_, ratio)| ratio);
    // Room for the figures beyond the bars.
    let (least, most) = (ratios().fold(0.5, f64::min) / 1.5, ratios().fold(2.0, f64::max) * 1.5);
    let height = |peers: &[Bars]| HEAD + peers.iter().map(|(_, bars)| height_of(bars)).sum::<u32>();
    let rows: u32 = groups.iter().map(|(_, peers)| height(peers)).sum();

    let mut svg = String::new();
    {
        let root =
            SVGBackend::with_string(&mut svg, (WIDTH, TITLE + LEGEND + rows + AXIS)).into_drawing_area();
        let (top, below) = root.split_vertically(TITLE + LEGEND);
        draw_title(&top)?;
        draw_legend(&top)?;
        let mut chart = ChartBuilder::on(&below)
            .set_label_area_size(LabelAreaPosition::Bottom, AXIS)
            .set_label_area_size(LabelAreaPosition::Left, PEER_NAMES)
            .build_cartesian_2d((least..most).log_scale(), f64::from(rows)..0.0)?;
        draw_scale(&below, &chart, least, most, rows)?;
        let mut y = 0;
        for (head, peers) in &groups {
            draw_head(&below, y, head)?;
            y += HEAD;
            for (peer, bars) in peers {
                draw_peer(&below, &mut chart, y, peer, bars)?;
                y += height_of(bars);
            }
        }
        root.present()?;
    }
    Ok(svg)
}

fn height_of(bars: &[(usize, f64)]) -> u32 {
    bars.len() as u32 * BAR + GAP
}

fn text(size: i32, horizontal: HPos, colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&colour).pos(Pos::new(horizontal, VPos::Center))
}

fn draw_title(area: &Area) -> Drawn {
    let middle = (WIDTH / 2) as i32;
    let title = "How long bytepool takes, relative to others";
    area.draw(&Text::new(title, (middle, 16), text(26, HPos::Center, GREY)))?;
    let words = "0.5: half the other's time. Left of 1, bytepool is faster.";
    area.draw(&Text::new(words, (middle, 42), text(18, HPos::Center, GREY)))?;
    Ok(())
}

fn draw_legend(area: &Area) -> Drawn {
    let (mut x, y) = (PEER_NAMES as i32, (TITLE + LEGEND / 2) as i32);
    for (words, colour) in BARS.into_iter().zip(COLOURS) {
        area.draw(&Rectangle::new([(x, y - 6), (x + 12, y + 6)], colour.filled()))?;
        area.draw(&Text::new(words, (x + 18, y), text(17, HPos::Left, GREY)))?;
        x += 40 + 8 * words.len() as i32;
    }
    Ok(())
}

/// Lines at round ratios, the one at 1 stronger.
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
        area.draw(&Text::new(ratio.to_string(), (x, bottom + 12), text(16, HPos::Center, GREY)))?;
    }
    Ok(())
}

fn draw_head(area: &Area, top: u32, head: &str) -> Drawn {
    let y = (top + HEAD / 2) as i32;
    area.draw(&Text::new(head.to_owned(), (4, y), text(18, HPos::Left, GREY)))?;
    Ok(())
}

fn draw_peer(area: &Area, chart: &mut Chart, top: u32, peer: &str, bars: &[(usize, f64)]) -> Drawn {
    let middle = top as i32 + (bars.len() as u32 * BAR / 2) as i32;
    area.draw(&Text::new(peer.to_owned(), (PEER_NAMES as i32 - 8, middle), text(17, HPos::Right, GREY)))?;
    for (&(bar, ratio), number) in bars.iter().zip(0..) {
        let y = f64::from(top + number * BAR);
        let corners = [(1.0, y + 1.0), (ratio, y + f64::from(BAR) - 1.0)];
        chart.draw_series([Rectangle::new(corners, COLOURS[bar].filled())])?;
        let (side, away) = if ratio < 1.0 { (HPos::Right, -4) } else { (HPos::Left, 4) };
        let figure = EmptyElement::at((ratio, y + f64::from(BAR) / 2.0 + 0.5))
            + Text::new(shown(ratio), (away, 0), text(13, side, GREY));
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
