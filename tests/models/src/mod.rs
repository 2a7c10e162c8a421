//! Models: the library's own code, run by shuttle under thousands of schedules and a weak memory.
//!
//! Built with `--cfg bytepool_shuttle` only: then [`crate::sync`] names the replacements of [`sync`] instead of the
//! standard library, and everything else is the code that ships.
//!
//! - [`weak`]: what a load may find, by the C11 model without load buffering
//! - [`sync`]: atomics, locks, threads and the queue on top of it
//!
//! What is replaced besides: `barrier.rs` fences all threads of the model instead of asking the kernel, and `thread_pointer.rs`
//! finds a thread's state by shuttle's number of it. A thread's state has fewer positions for keys. Nothing forks, but in
//! the models of it.
//!
//! An execution is repeated from its schedule, which a failing model prints.

#[cfg(feature = "capi")]
mod contexts;
mod fork;
pub(crate) mod guard_depth;
mod limit;
mod litmus;
mod overflow;
mod pools;
mod puts;
mod sharing;
mod shelf;
pub(crate) mod sync;
mod tasks;
mod waiting;
pub(crate) mod weak;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Executions so far: their threads have numbers of their own.
static EXECUTIONS: AtomicUsize = AtomicUsize::new(0);

/// The current thread's number, which no other thread of any execution has.
pub(crate) fn thread_number() -> usize {
    EXECUTIONS.load(Relaxed) << 16 | shuttle::current::try_get_current_task().map_or(0xFFFF, usize::from)
}

/// Whether the model that runs forks. Fork guards of the others keep nobody from it, and order nothing.
static FORKS: AtomicBool = AtomicBool::new(false);

pub(crate) fn forks() -> bool {
    FORKS.load(Relaxed)
}

/// Whether the system of the model that runs refuses the heavy fence from now on.
static REFUSES_FENCE: AtomicBool = AtomicBool::new(false);

pub(crate) fn refuses_fence() -> bool {
    REFUSES_FENCE.load(Relaxed)
}

/// Until the execution ends.
fn refuse_fence() {
    REFUSES_FENCE.store(true, Relaxed);
}

/// For a model that needs the fence, at its start.
fn have_fence() {
    REFUSES_FENCE.store(false, Relaxed);
}

/// One in so many executions of each model has a system without the heavy fence.
const WITHOUT_FENCE_EVERY: usize = 4;

/// How often a thread is preempted in the schedules by priority.
const PREEMPTIONS: usize = 3;

/// Runs `body` under many schedules: half of them random at every point, half with threads of random priority that
/// change a few times. The same ones each time, unless `BYTEPOOL_MODELS_SEED` says otherwise;
/// `BYTEPOOL_MODELS_EFFORT` is by how much to multiply their number.
fn check(executions: usize, body: impl Fn() + Send + Sync + 'static) {
    run(executions, false, body);
}

/// Runs `body` under many schedules, with fork guards that keep threads from forking. Models that do not fork need none.
fn check_forking(executions: usize, body: impl Fn() + Send + Sync + 'static) {
    run(executions, true, body);
}

fn run(executions: usize, forks: bool, body: impl Fn() + Send + Sync + 'static) {
    // The library's statics are the process's: one model at a time.
    static RUNNING: Mutex<()> = Mutex::new(());
    let _running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name| std::env::var(name).ok().map(|value| value.parse::<usize>().expect(name));
    FORKS.store(forks, Relaxed);
    let executions = executions * number("BYTEPOOL_MODELS_EFFORT").unwrap_or(1);
    let seed = number("BYTEPOOL_MODELS_SEED").unwrap_or(0) as u64;
    let body = std::sync::Arc::new(body);
    let schedulers: [Box<dyn Scheduler + Send>; 2] = [
        Box::new(RandomScheduler::new_from_seed(seed, executions.div_ceil(2))),
        Box::new(PctScheduler::new_from_seed(seed, PREEMPTIONS, executions / 2)),
    ];
    for scheduler in schedulers {
        let body = body.clone();
        Runner::new(scheduler, config()).run(move || {
            let execution = EXECUTIONS.fetch_add(1, Relaxed);
            weak::start_execution(shuttle::rand::Rng::r#gen(&mut shuttle::rand::thread_rng()));
            // What is known of the fence is the process's as well.
            REFUSES_FENCE.store(execution % WITHOUT_FENCE_EVERY == 0, Relaxed);
            crate::os::barrier::forget();
            body();
        });
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    // Far more than any model needs: who does not end waits for what never comes.
    config.max_steps = MaxSteps::FailAfter(300_000);
    config.silence_warnings = true;
    config
}

/// Whether `body` fails in one of its schedules.
fn fails(executions: usize, body: impl Fn() + Send + Sync + 'static) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(executions, body))).is_err()
}

/// One of at most `most` threads that are here at once.
fn hold(held: &sync::atomic::AtomicU32, most: u32) {
    use sync::atomic::Ordering::AcqRel;
    assert!(held.fetch_add(1, AcqRel) < most, "more than {most} at once");
    held.fetch_sub(1, AcqRel);
}
