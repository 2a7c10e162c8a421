//! `get_async`: the same queue as `get_timeout`, without a thread for who waits.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytepool::{GetAsync, GetError, Pool, PooledBuffer};

use crate::valgrind;

const SIZE: usize = 64 << 10;

/// May have so many buffers at once.
fn pool(buffers: usize) -> Pool {
    Pool::builder().size_class(SIZE, 16).max_bytes(buffers * SIZE).build().unwrap()
}

/// Counts its calls.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Calls {
    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn calls() -> (Arc<Calls>, Waker) {
    let calls = Arc::new(Calls::default());
    (calls.clone(), Waker::from(calls))
}

type Polled = Poll<Result<PooledBuffer, GetError>>;

fn poll(future: &mut GetAsync<'_>, waker: &Waker) -> Polled {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// A buffer that is there.
fn ready(polled: Polled) -> PooledBuffer {
    let Poll::Ready(got) = polled else { panic!("it waits") };
    got.unwrap()
}

/// A future that waits, and the calls of its waker.
fn queued(pool: &Pool, size: usize) -> (GetAsync<'_>, Arc<Calls>, Waker) {
    let (mut future, (calls, waker)) = (pool.get_async(size), calls());
    assert!(poll(&mut future, &waker).is_pending());
    (future, calls, waker)
}

fn is_whole(pool: &Pool) {
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!((stats.outstanding(), stats.gets), (0, stats.puts), "{stats}");
}

#[test]
fn where_there_is_memory_the_first_poll_has_a_buffer() {
    let pool = pool(2);
    let sizes = [SIZE, 100, 0, 2 * SIZE];
    // The last one needs what trim gives back.
    let sizes = if cfg!(bytepool_portable) { &sizes[..3] } else { &sizes };
    for &size in sizes {
        let (calls, waker) = calls();
        let buffer = ready(poll(&mut pool.get_async(size), &waker));
        assert_eq!((buffer.len(), calls.get()), (size, 0));
        drop(buffer);
        pool.trim(0);
    }
    assert_eq!(pool.stats().waits, 0);
    is_whole(&pool);
}

#[test]
fn what_can_never_fit_and_a_closed_pool_fail_at_once() {
    let pool = pool(2);
    let (_, waker) = calls();
    let held = [(); 2].map(|()| pool.get(SIZE).unwrap());
    let never = poll(&mut pool.get_async(2 * SIZE + 1), &waker);
    assert!(matches!(never, Poll::Ready(Err(GetError::Limit { .. }))), "{never:?}");
    assert_eq!((pool.stats().waits, pool.stats().limit_failures), (0, 1));
    drop(held);
    pool.close();
    assert!(matches!(poll(&mut pool.get_async(1), &waker), Poll::Ready(Err(GetError::Closed))));
}

#[test]
fn a_put_wakes_the_first_task_and_hands_the_buffer_over() {
    let pool = pool(1);
    let held = pool.get(SIZE).unwrap();
    let (mut first, of_first, waker_of_first) = queued(&pool, SIZE);
    let (mut second, of_second, waker_of_second) = queued(&pool, SIZE);
    drop(held);
    assert_eq!((of_first.get(), of_second.get()), (1, 0));
    assert!(poll(&mut second, &waker_of_second).is_pending());
    assert!(pool.get(SIZE).is_err(), "it is granted");
    let buffer = ready(poll(&mut first, &waker_of_first));
    drop(buffer);
    assert_eq!((of_first.get(), of_second.get()), (1, 1));
    drop(ready(poll(&mut second, &waker_of_second)));
    assert_eq!(pool.stats().waits, 2);
    is_whole(&pool);
}

#[test]
fn tasks_and_threads_are_served_in_the_order_in_which_they_came() {
    let pool = pool(1);
    let held = pool.get(SIZE).unwrap();
    let (mut first, of_first, waker) = queued(&pool, SIZE);
    let (served, order) = channel();
    thread::scope(|scope| {
        let of_thread = scope.spawn(|| {
            let buffer = pool.get_timeout(SIZE, Duration::MAX).unwrap();
            served.send("thread").unwrap();
            drop(buffer);
        });
        while pool.stats().waits < 2 {
            thread::yield_now();
        }
        let (mut third, of_third, waker_of_third) = queued(&pool, SIZE);
        drop(held);
        assert_eq!((of_first.get(), of_third.get(), order.try_recv().is_ok()), (1, 0, false));
        drop(ready(poll(&mut first, &waker)));
        of_thread.join().unwrap();
        assert_eq!((of_third.get(), order.try_recv()), (1, Ok("thread")));
        drop(ready(poll(&mut third, &waker_of_third)));
    });
    is_whole(&pool);
}

#[test]
fn the_waker_of_the_last_poll_is_called() {
    let pool = pool(1);
    let held = pool.get(SIZE).unwrap();
    let (mut future, of_first, _) = queued(&pool, SIZE);
    assert_eq!(Arc::strong_count(&of_first), 2, "its clone is in the queue");
    let (of_last, last) = calls();
    assert!(poll(&mut future, &last).is_pending());
    assert_eq!(Arc::strong_count(&of_first), 1, "it is kept no more");
    drop(held);
    assert_eq!((of_first.get(), of_last.get()), (0, 1));
    drop(ready(poll(&mut future, &last)));
    is_whole(&pool);
}

#[test]
fn who_is_dropped_leaves_the_queue_and_gives_back_what_was_granted() {
    // A slot that was put, a fresh one, another class's memory, and oversize.
    for (held, wanted) in [(SIZE, SIZE), (2 * SIZE, SIZE), (SIZE, 2 * SIZE), (3 * SIZE, 3 * SIZE)] {
        if cfg!(bytepool_portable) && held != wanted {
            eprintln!("left out: this region gives no pages back");
            continue;
        }
        for granted in [false, true] {
            let pool = Pool::builder().size_class(SIZE, 16).size_class(2 * SIZE, 16);
            let pool = pool.max_bytes(held.max(wanted)).build().unwrap();
            let buffer = pool.get(held).unwrap();
            let (first, of_first, _) = queued(&pool, wanted);
            // All of it.
            let (mut second, of_second, waker) = queued(&pool, held.max(wanted));
            let mut buffer = Some(buffer);
            if granted {
                buffer = None;
                let stats = pool.stats();
                stats.assert_consistent();
                assert_eq!((stats.outstanding(), of_second.get()), (1, 0), "{held} {wanted}");
            }
            drop(first);
            assert_eq!(Arc::strong_count(&of_first), 1, "its waker is gone");
            drop(buffer);
            assert_eq!((of_first.get(), of_second.get()), (usize::from(granted), 1), "{held} {wanted}");
            drop(ready(poll(&mut second, &waker)));
            is_whole(&pool);
        }
    }
}

#[test]
fn who_gives_up_lets_those_behind_have_the_room() {
    let pool = pool(2);
    let held = pool.get(SIZE).unwrap();
    let (first, of_first, _) = queued(&pool, 2 * SIZE);
    let (mut second, of_second, waker) = queued(&pool, SIZE);
    assert_eq!((of_first.get(), of_second.get()), (0, 0), "it came later");
    drop(first);
    assert_eq!((of_first.get(), of_second.get()), (0, 1));
    drop((ready(poll(&mut second, &waker)), held));
    is_whole(&pool);
}

#[test]
fn closing_wakes_all_tasks() {
    let pool = pool(1);
    let held = pool.get(SIZE).unwrap();
    let mut tasks = [(); 3].map(|()| queued(&pool, SIZE));
    drop(held);
    pool.close();
    for (future, calls, waker) in &mut tasks {
        assert_eq!(calls.get(), 1);
        assert!(matches!(poll(future, waker), Poll::Ready(Err(GetError::Closed))));
    }
    let stats = pool.stats();
    stats.assert_consistent();
    assert_eq!(stats.mapped_bytes, 0);
}

#[test]
fn a_future_that_ended_is_not_polled_again() {
    let pool = pool(1);
    let (_, waker) = calls();
    let mut future = pool.get_async(SIZE);
    drop(ready(poll(&mut future, &waker)));
    let again = std::panic::AssertUnwindSafe(|| poll(&mut future, &waker));
    assert!(std::panic::catch_unwind(again).is_err());
}

/// Whose waker uses the pool in every way there is: no lock may be held.
struct UsesThePool {
    pool: Pool,
    woken: AtomicUsize,
}

impl Wake for UsesThePool {
    fn wake(self: Arc<Self>) {
        self.pool.stats().assert_consistent();
        self.pool.trim(0);
        assert!(self.pool.get(SIZE).is_err(), "it is granted to the task");
        let (calls, waker) = calls();
        let mut future = self.pool.get_async(SIZE);
        assert!(poll(&mut future, &waker).is_pending());
        drop(future);
        assert_eq!(calls.get(), 0);
        drop(self.pool.clone());
        self.woken.fetch_add(1, SeqCst);
    }
}

#[test]
fn wakers_may_use_the_pool() {
    let pool = pool(1);
    let uses = Arc::new(UsesThePool { pool: pool.clone(), woken: AtomicUsize::new(0) });
    let waker = Waker::from(uses.clone());
    let give_back: [fn(&Pool, PooledBuffer); 3] = [
        |_, buffer| drop(buffer),
        |_, buffer| thread::spawn(move || drop(buffer)).join().unwrap(),
        |pool, buffer| {
            let (data, size) = buffer.into_raw();
            // SAFETY:
            // - this closure's buffer
            unsafe { pool.put_raw(data, size) }.unwrap();
        },
    ];
    for (round, give_back) in give_back.into_iter().enumerate() {
        let held = pool.get(SIZE).unwrap();
        let mut future = pool.get_async(SIZE);
        assert!(poll(&mut future, &waker).is_pending());
        give_back(&pool, held);
        assert_eq!(uses.woken.load(SeqCst), round + 1, "the waker ran to its end");
        drop(ready(poll(&mut future, &waker)));
    }
    is_whole(&pool);
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("on purpose: a waker");
    }
}

#[test]
fn a_waker_that_panics_harms_neither_who_puts_nor_who_waits_behind() {
    let pool = pool(2);
    let held = [(); 2].map(|()| pool.get(SIZE).unwrap());
    let mut first = pool.get_async(SIZE);
    assert!(poll(&mut first, &Waker::from(Arc::new(Panics))).is_pending());
    let (mut second, of_second, waker) = queued(&pool, SIZE);
    drop(held);
    assert_eq!(of_second.get(), 1);
    drop((ready(poll(&mut first, &waker)), ready(poll(&mut second, &waker))));
    is_whole(&pool);
}

/// Whose drop panics, as its owner does.
struct PanicsToo;

impl Drop for PanicsToo {
    fn drop(&mut self) {
        panic!("on purpose: what a waker's panic carried");
    }
}

struct PanicsTwice;

impl Wake for PanicsTwice {
    fn wake(self: Arc<Self>) {
        std::panic::panic_any(PanicsToo);
    }
}

/// Nor does what the panic carried: who puts would keep its fork guard, and all others from forking.
#[test]
fn what_a_waker_s_panic_carried_ends_there_too() {
    let pool = pool(2);
    let held = [(); 2].map(|()| pool.get(SIZE).unwrap());
    let mut first = pool.get_async(SIZE);
    assert!(poll(&mut first, &Waker::from(Arc::new(PanicsTwice))).is_pending());
    let (mut second, of_second, waker) = queued(&pool, SIZE);
    let put = std::panic::AssertUnwindSafe(|| drop(held));
    assert!(std::panic::catch_unwind(put).is_ok(), "it came to who puts");
    assert_eq!(of_second.get(), 1);
    drop((ready(poll(&mut first, &waker)), ready(poll(&mut second, &waker))));
    is_whole(&pool);
}

/// Says that it runs, and then waits to be told to go on.
struct Stays(Mutex<(Sender<()>, Receiver<()>)>);

impl Wake for Stays {
    fn wake(self: Arc<Self>) {
        let (runs, goes_on) = &*self.0.lock().unwrap();
        runs.send(()).unwrap();
        goes_on.recv().unwrap();
    }
}

/// A thread with a lock of the user's may use any pool: it meets no waker that takes that lock.
#[test]
fn a_thread_calls_no_wakers_of_tasks_that_another_granted() {
    let (pool, another) = (pool(1), pool(1));
    let held = pool.get(SIZE).unwrap();
    let ((runs, is_running), (go_on, goes_on)) = (channel(), channel());
    let stays = Waker::from(Arc::new(Stays(Mutex::new((runs, goes_on)))));
    let mut first = pool.get_async(SIZE);
    assert!(poll(&mut first, &stays).is_pending());
    let (mut second, of_second, waker) = queued(&pool, SIZE);
    thread::scope(|scope| {
        let closer = scope.spawn(|| pool.close());
        is_running.recv().unwrap();
        // The second task's waker is due in the other thread.
        for pool in [&pool, &another] {
            pool.stats().assert_consistent();
            drop(pool.clone());
            drop(pool.get(SIZE));
        }
        // One of its own it calls, and no other.
        let of_another = another.get(SIZE).unwrap();
        let (third, of_third, _) = queued(&another, SIZE);
        drop(of_another);
        let of_both = (of_second.get(), of_third.get());
        // Before anything may fail, or the other thread stays for ever.
        go_on.send(()).unwrap();
        assert_eq!(of_both, (0, 1));
        drop(third);
        closer.join().unwrap();
    });
    assert_eq!(of_second.get(), 1);
    assert!(matches!(poll(&mut second, &waker), Poll::Ready(Err(GetError::Closed))));
    drop(held);
    is_whole(&another);
}

/// A task that is polled by its waker, as the simplest runtimes do.
struct PolledByWaker {
    task: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Wake for PolledByWaker {
    fn wake(self: Arc<Self>) {
        let task = self.task.lock().unwrap().take();
        let waker = Waker::from(self.clone());
        if let Some(mut task) = task {
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                *self.task.lock().unwrap() = Some(task);
            }
        }
    }
}

/// Spawns so many tasks that get a buffer each, and then runs `serve_all`.
fn serve_on_a_small_stack(tasks: usize, serve_all: impl FnOnce(&Pool, PooledBuffer) + Send) {
    let (pool, ended) = (pool(1), Arc::new(AtomicUsize::new(0)));
    let held = pool.get(SIZE).unwrap();
    for _ in 0..tasks {
        let (pool, ended) = (pool.clone(), ended.clone());
        let task = async move {
            drop(pool.get_async(SIZE).await);
            ended.fetch_add(1, SeqCst);
        };
        Arc::new(PolledByWaker { task: Mutex::new(Some(Box::pin(task))) }).wake();
    }
    assert_eq!((pool.stats().waits, ended.load(SeqCst)), (tasks as u64, 0));
    thread::scope(|scope| {
        let small = thread::Builder::new().stack_size(256 << 10);
        small.spawn_scoped(scope, || serve_all(&pool, held)).unwrap().join().unwrap();
    });
    assert_eq!(ended.load(SeqCst), tasks);
    is_whole(&pool);
}

/// However many there are: the stack grows with none.
#[test]
fn wakers_that_poll_at_once_are_called_one_after_the_other() {
    serve_on_a_small_stack(valgrind::rounds(2000), |_, held| drop(held));
    serve_on_a_small_stack(valgrind::rounds(10_000), |pool, held| {
        pool.close();
        drop(held);
    });
}

#[test]
fn a_forgotten_future_s_grant_is_out_and_its_waker_goes_with_the_pool() {
    let pool = pool(2);
    let held = [(); 2].map(|()| pool.get(SIZE).unwrap());
    let (granted, _, _) = queued(&pool, SIZE);
    let (waiting, of_waiting, waker) = queued(&pool, 2 * SIZE);
    std::mem::forget((granted, waiting));
    drop(held);
    assert_eq!((pool.stats().outstanding(), of_waiting.get()), (1, 0));
    pool.stats().assert_consistent();
    drop(waker);
    assert_eq!(Arc::strong_count(&of_waiting), 2);
    drop(pool);
    assert_eq!((Arc::strong_count(&of_waiting), of_waiting.get()), (1, 1), "the closing woke it");
}

/// Runs tasks on the calling thread, in the order in which they are woken.
struct Executor<'a> {
    tasks: Vec<Option<Pin<Box<dyn Future<Output = ()> + 'a>>>>,
    woken: Arc<Mutex<VecDeque<usize>>>,
}

struct Number(usize, Arc<Mutex<VecDeque<usize>>>);

impl Wake for Number {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push_back(self.0);
    }
}

impl<'a> Executor<'a> {
    fn new() -> Self {
        Self { tasks: Vec::new(), woken: Arc::default() }
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + 'a) {
        self.woken.lock().unwrap().push_back(self.tasks.len());
        self.tasks.push(Some(Box::pin(task)));
    }

    /// Until no task is woken any more; how many are left.
    fn run(&mut self) -> usize {
        while let Some(number) = { self.woken.lock().unwrap().pop_front() } {
            let waker = Waker::from(Arc::new(Number(number, self.woken.clone())));
            if let Some(task) = &mut self.tasks[number] {
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    self.tasks[number] = None;
                }
            }
        }
        self.tasks.iter().flatten().count()
    }
}

/// Lets all others run first.
async fn yield_now() {
    let mut first = true;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

#[test]
fn six_hundred_tasks_share_eight_buffers_on_one_thread() {
    const TASKS: usize = 600;
    let pool = pool(8);
    let (held, most, served) = (Cell::new(0), Cell::new(0), Rc::new(Cell::new(Vec::new())));
    let mut executor = Executor::new();
    for task in 0..TASKS {
        let (pool, held, most, served) = (&pool, &held, &most, served.clone());
        executor.spawn(async move {
            for _ in 0..3 {
                let mut buffer = pool.get_async(SIZE).await.unwrap();
                held.set(held.get() + 1);
                most.set(held.get().max(most.get()));
                let mut order = served.take();
                order.push(task);
                served.set(order);
                buffer[0] = task as u8;
                yield_now().await;
                assert_eq!(buffer[0], task as u8);
                held.set(held.get() - 1);
            }
        });
    }
    assert_eq!(executor.run(), 0, "tasks were not woken");
    assert_eq!((held.get(), most.get()), (0, 8));
    let order = served.take();
    assert!(order[..TASKS].iter().copied().eq(0..TASKS), "first come, first served: {order:?}");
    let stats = pool.stats();
    assert_eq!((stats.gets, stats.limit_failures), (3 * TASKS as u64, 0));
    assert!(stats.waits >= (TASKS - 8) as u64);
    drop(executor);
    is_whole(&pool);
}

/// Futures are polled, and dropped granted or not, while other threads put, get and wait: nothing is lost.
#[test]
fn nothing_is_lost_between_puts_polls_and_drops_on_many_threads() {
    let pool = pool(3);
    let woken = |calls: &Calls, before: usize| {
        while calls.get() == before {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        for number in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..valgrind::rounds(400) {
                    let (calls, waker) = calls();
                    let mut future = pool.get_async(SIZE);
                    match poll(&mut future, &waker) {
                        Poll::Ready(got) => drop(got.unwrap()),
                        // Some give up, before or after they were granted.
                        Poll::Pending if (round + number) % 3 == 0 => drop(future),
                        Poll::Pending => {
                            woken(&calls, 0);
                            drop(ready(poll(&mut future, &waker)));
                        }
                    }
                    drop(pool.get_timeout(SIZE, Duration::MAX).unwrap());
                }
            });
        }
    });
    is_whole(&pool);
    assert_eq!([(); 3].map(|()| pool.get(SIZE).unwrap()).len(), 3);
}
