//! Random programs of everything a pool can do, against a sequential model that knows what must come of each
//! step: success or failure, every figure, and every byte.
//!
//! What the model leaves open is which slot a get reuses, and which idle slots go at the limit; it then
//! checks what it is told.

use proptest::prelude::*;

use crate::valgrind;

mod get;
mod program;
mod put;
mod world;

use program::{Setup, Step, limited, program, small_slots, unlimited};
use world::{Hand, Held, Model};

/// Regions of this build cannot give pages back: trim, close and the limit give up no idle slot. And classes have no room
/// beyond their capacities: the system allocator serves their overflow.
const PORTABLE: bool = cfg!(any(not(unix), bytepool_portable));

impl Model {
    fn trim(&mut self, keep: usize) {
        let before = self.idle_bytes();
        let given = self.pool().trim(keep);
        self.was_trimmed = true;
        let stats = self.handles[0].stats();
        assert_eq!(self.note_given_up(&stats), given);
        let after = self.idle_bytes();
        assert!(after >= keep.min(before), "{after} idle bytes are left of {before}, {keep} were to be kept");
        if !PORTABLE && self.setup.whole_pages {
            for class in self.classes.iter().filter(|class| class.idle > 0) {
                assert!(after.saturating_sub(keep) < class.slot_size, "{class:?} had more to give");
            }
        }
        self.held.iter_mut().for_each(Held::check);
    }

    fn close(&mut self) {
        self.pool().close();
        self.is_closed = true;
        self.note_closed_idle();
        self.held.iter_mut().for_each(Held::check);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Get { kind, size } => self.get(kind, size),
            Step::Put { which } => self.put(which),
            Step::PutSized { which, size } => self.put_raw(which, Some(size)),
            Step::PutUnsized { which } => self.put_raw(which, None),
            Step::PutIdle { which, size } => self.put_idle(which, size),
            Step::PutStray { which, offset, size } => self.put_stray(which, offset, size),
            Step::Adopt { which, size } => self.adopt(which, size),
            Step::Release { which } => self.release(which),
            Step::Resize { which, len } => self.resize(which, len),
            Step::Write { which, start, len } => self.write(which, start, len),
            Step::Realloc { which, size } => self.realloc(which, size),
            Step::Trim { keep } => self.trim(keep),
            Step::CloneHandle => self.handles.push(self.pool()),
            Step::DropHandle { which } if self.handles.len() > 1 => {
                drop(self.handles.swap_remove(which % self.handles.len()));
            }
            Step::DropHandle { .. } => {}
            Step::Close => self.close(),
        }
        self.check_figures();
    }

    /// All raw buffers are put; the others outlive every handle.
    fn end(mut self) {
        self.held.iter_mut().for_each(Held::check);
        while let Some(index) = self.held.iter().position(|held| matches!(held.hand, Hand::Raw(..))) {
            self.put(index);
            self.check_figures();
        }
        self.handles.clear();
        for held in &mut self.held {
            held.check();
            held.write(0..held.content.len(), 0xFF);
        }
        while let Some(mut held) = self.held.pop() {
            held.check();
        }
    }
}

fn run(setup: Setup, program: &[Step]) {
    let mut model = Model::new(setup);
    model.check_figures();
    for step in program {
        model.step(step);
    }
    model.end();
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: valgrind::rounds(256) as u32,
        max_shrink_iters: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_program_does_what_the_model_says(setup in small_slots(), program in program()) {
        run(setup, &program);
    }

    #[test]
    fn any_program_beyond_the_capacities_does_what_the_model_says(setup in unlimited(), program in program()) {
        run(setup, &program);
    }

    #[test]
    fn any_program_under_a_limit_does_what_the_model_says(setup in limited(), program in program()) {
        run(setup, &program);
    }
}
