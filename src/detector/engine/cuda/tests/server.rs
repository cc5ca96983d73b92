//! The server on devices that are slow, full or lost.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::super::arena::Arena;
use super::super::descriptor::Purpose;
use super::super::device::{DeviceError, Kernel, Memory};
use super::super::engine::CudaEngine;
use super::super::server::ServerHandle;
use super::super::ticket::Ticket;
use super::super::try_out::try_out;
use super::emulated::{Controls, Emulated};
use super::{Camera, initial};
use crate::detector::engine::{Engine, WithFallback};
use crate::detector::error::message;
use crate::detector::nn::Rng;
use crate::detector::vae::VaeConfig;
use crate::detector::vae::tests::{appearance, motion};
use rand::{Rng as _, SeedableRng};

fn start() -> (ServerHandle<Emulated>, Arc<Controls>) {
    let (device, controls) = Emulated::new();
    (ServerHandle::start(device).unwrap(), controls)
}

fn configs() -> [VaeConfig; 2] {
    [motion(), appearance()]
}

/// Maps of `frames` frames of one camera with both nets, each learnt from.
fn watch(engine: &mut dyn Engine, seed: u64, frames: usize) -> Vec<Vec<f32>> {
    let mut camera = Camera::new(&configs(), seed);
    let nets = camera.nets(engine);
    let mut maps = Vec::new();
    for _ in 0..frames {
        camera.next(2, 0.1);
        maps.extend(engine.infer(&camera.scores(&nets)).unwrap());
        engine.train(&camera.steps(&nets)).unwrap();
    }
    maps.push(engine.checkpoint(nets[0]).unwrap().weights);
    maps
}

/// Runs `work` for many cameras at once, each on a thread of its own.
fn crowd<T: Send>(cameras: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let together = Barrier::new(cameras as usize);
    thread::scope(|scope| {
        let start = |seed| {
            let (together, work) = (&together, &work);
            let thread = thread::Builder::new().stack_size(256 << 10);
            let run = move || {
                together.wait();
                work(seed)
            };
            thread.spawn_scoped(scope, run).unwrap()
        };
        let threads: Vec<_> = (0..cameras).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_camera_gets_the_same_bits_alone_and_among_a_thousand() {
    let alone: Vec<_> = (0..3)
        .map(|seed| watch(&mut start().0.engine(), seed, 3))
        .collect();
    let (server, controls) = start();
    let all = crowd(1000, |seed| watch(&mut server.engine(), seed % 3, 3));
    for (seed, maps) in all.iter().enumerate() {
        assert_eq!(*maps, alone[seed % 3], "camera {seed}");
    }
    assert!(server.launches() > 0);
    let (jobs, largest) = (
        controls.jobs.load(Ordering::Relaxed),
        controls.largest.load(Ordering::Relaxed),
    );
    assert_eq!(jobs, 1000 * 3 * 2 * 2);
    assert!(largest > 2, "no launch had jobs of several cameras");
    assert!(server.launches() < jobs);
}

#[test]
fn a_team_of_blocks_gives_the_same_bits_and_has_few_jobs_alone() {
    let (device, controls) = Emulated::with_teams();
    let server = ServerHandle::start(device).unwrap();
    let usual = [
        crate::detector::cue::motion::vae_config((45, 33)),
        crate::detector::cue::appearance::vae_config(
            &"[(12,3,2),(24,3,2),(32,3,2)]".parse().unwrap(),
            16,
            (64, 48),
        ),
    ];
    for nets in [&configs(), &usual] {
        let maps = [true, false].map(|allow| {
            server.allow_teams(allow);
            let mut engine = server.engine();
            let mut camera = Camera::new(nets, 4);
            let nets = camera.nets(&mut engine);
            camera.next(2, 0.1);
            let mut maps = engine.infer(&camera.scores(&nets)).unwrap();
            maps.push(engine.reconstruction(nets[1]).unwrap().unwrap());
            (maps, controls.in_teams.swap(0, Ordering::Relaxed))
        });
        assert_eq!([maps[0].1, maps[1].1], [2, 0]);
        assert!(maps[0].0 == maps[1].0);
    }
    // Three jobs are too many for this device's teams.
    server.allow_teams(true);
    let mut engine = server.engine();
    let mut camera = Camera::new(&configs(), 4);
    let nets = camera.nets(&mut engine);
    camera.next(2, 0.1);
    let mut jobs = camera.scores(&nets);
    jobs.extend(camera.scores(&nets[..1]));
    engine.infer(&jobs).unwrap();
    assert_eq!(controls.in_teams.load(Ordering::Relaxed), 0);
    // Steps that take more than a quarter of the blocks leave no room for teams.
    controls.set_hang(Kernel::Step, true);
    let many: Vec<VaeConfig> = configs().into_iter().cycle().take(18).collect();
    let (mut trained, mut crowd) = (server.engine(), Camera::new(&many, 4));
    let there = crowd.nets(&mut trained);
    crowd.next(2, 0.0);
    let before = server.launches();
    trained.train(&crowd.steps(&there)).unwrap();
    while server.launches() == before {
        thread::yield_now();
    }
    engine.infer(&camera.scores(&nets)).unwrap();
    assert_eq!(controls.in_teams.load(Ordering::Relaxed), 0);
    controls.set_hang(Kernel::Step, false);
    trained.checkpoint(there[0]).unwrap();
    engine.infer(&camera.scores(&nets)).unwrap();
    assert_eq!(controls.in_teams.load(Ordering::Relaxed), 2);
}

#[test]
fn while_a_launch_is_in_flight_jobs_collect_for_the_next_one() {
    let (server, controls) = start();
    let mut camera = Camera::new(&configs()[..1], 1);
    let mut engines: Vec<_> = (0..3).map(|_| server.engine()).collect();
    let nets: Vec<_> = engines.iter_mut().map(|engine| camera.nets(engine)).collect();
    camera.next(2, 0.0);
    controls.set_hang(Kernel::Score, true);
    let before = server.launches();
    engines[0].submit(&camera.scores(&nets[0])).unwrap();
    while server.launches() == before {
        thread::yield_now();
    }
    for (engine, nets) in engines.iter_mut().zip(&nets).skip(1) {
        engine.submit(&camera.scores(nets)).unwrap();
    }
    controls.set_hang(Kernel::Score, false);
    let maps: Vec<_> = engines
        .iter_mut()
        .map(|engine| engine.collect().unwrap())
        .collect();
    assert_eq!(server.launches() - before, 2);
    assert!(maps[0] == maps[1] && maps[0] == maps[2]);
}

#[test]
fn scores_may_be_collected_later_and_until_then_nothing_else_is_done_with_the_nets() {
    let (server, controls) = start();
    let (mut engine, mut other) = (server.engine(), server.engine());
    let mut camera = Camera::new(&configs(), 1);
    let (nets, there) = (camera.nets(&mut engine), camera.nets(&mut other));
    camera.next(2, 0.0);
    controls.set_hang(Kernel::Score, true);
    engine.submit(&camera.scores(&nets)).unwrap();
    assert!(!engine.is_done());
    for failed in [
        engine.submit(&camera.scores(&nets)),
        engine.infer(&camera.scores(&nets)).map(drop),
        engine.train(&camera.steps(&nets)).map(drop),
        engine.reconstruction(nets[0]).map(drop),
        engine.checkpoint(nets[0]).map(drop),
    ] {
        assert!(failed.is_err_and(|error| error.to_string().contains("not been collected")));
    }
    controls.set_hang(Kernel::Score, false);
    let maps = engine.collect().unwrap();
    assert!(engine.is_done() && engine.collect().is_err());
    assert_eq!(maps, other.infer(&camera.scores(&there)).unwrap());
    engine.train(&camera.steps(&nets)).unwrap();
}

#[test]
fn the_server_ends_with_its_last_client_and_gives_all_memory_back() {
    let (server, controls) = start();
    let weak = server.downgrade();
    let mut engine = server.engine();
    drop(server);
    watch(&mut engine, 1, 2);
    assert!(ServerHandle::upgrade(&weak).is_some());
    assert!(controls.allocated() > 0);
    drop(engine);
    assert!(ServerHandle::upgrade(&weak).is_none());
    assert_eq!(controls.allocated(), 0);
}

#[test]
fn a_client_that_leaves_with_a_step_in_flight_harms_no_other() {
    let (server, controls) = start();
    controls.delay.store(2000, Ordering::Relaxed);
    let want = watch(&mut server.engine(), 2, 2);
    for seed in 0..10 {
        let mut engine = server.engine();
        let mut camera = Camera::new(&configs(), seed);
        let nets = camera.nets(&mut engine);
        camera.next(2, 0.0);
        engine.train(&camera.steps(&nets)).unwrap();
        drop(engine);
        assert_eq!(watch(&mut server.engine(), 2, 2), want);
    }
    // And with the server.
    let mut engine = server.engine();
    drop(server);
    let mut camera = Camera::new(&configs(), 3);
    let nets = camera.nets(&mut engine);
    camera.next(2, 0.0);
    engine.train(&camera.steps(&nets)).unwrap();
    drop(engine);
    assert_eq!(controls.allocated(), 0);
}

#[test]
fn training_does_not_wait_and_scores_of_others_do_not_wait_for_it() {
    let (server, controls) = start();
    let (mut trained, mut scored) = (server.engine(), server.engine());
    let mut camera = Camera::new(&configs(), 1);
    let (there, here) = (camera.nets(&mut trained), camera.nets(&mut scored));
    camera.next(2, 0.0);
    controls.set_hang(Kernel::Step, true);
    assert_eq!(trained.train(&camera.steps(&there)).unwrap()[0].loss, 0.0);
    scored.infer(&camera.scores(&here)).unwrap();
    controls.set_hang(Kernel::Step, false);
    let reports = trained.train(&camera.steps(&there)).unwrap();
    assert!(reports.iter().all(|report| report.loss > 0.0 && !report.rejected));
}

#[test]
fn without_memory_a_net_is_not_created_and_the_others_go_on() {
    let (server, controls) = start();
    let mut first = server.engine();
    let want = watch(&mut start().0.engine(), 1, 4);
    let mut camera = Camera::new(&configs(), 1);
    let nets = camera.nets(&mut first);
    let full = controls.allocated();
    controls.memory.store(full, Ordering::Relaxed);
    // Slabs have room for many small nets: one that is larger than a slab has none.
    let large =
        crate::detector::cue::appearance::vae_config(&"[(256,3,1),(256,7,1)]".parse().unwrap(), 16, (32, 32));
    let error = message(server.engine().create(&large, &initial(&large, 1)).unwrap_err());
    assert!(
        error.contains("the GPU has no ") && error.contains("MB of memory left"),
        "{error}"
    );
    let mut maps = Vec::new();
    for _ in 0..4 {
        camera.next(2, 0.1);
        maps.extend(first.infer(&camera.scores(&nets)).unwrap());
        first.train(&camera.steps(&nets)).unwrap();
    }
    maps.push(first.checkpoint(nets[0]).unwrap().weights);
    assert_eq!(maps, want);
}

#[test]
fn a_server_on_a_full_device_does_not_start() {
    let (device, controls) = Emulated::new();
    controls.memory.store(1000, Ordering::Relaxed);
    let error = ServerHandle::start(device).unwrap_err();
    assert!(error.contains("memory left"), "{error}");
    assert_eq!(controls.allocated(), 0);
}

#[test]
fn without_memory_for_a_larger_batch_only_that_camera_fails() {
    let (server, controls) = start();
    let [mut small, mut large] = [server.engine(), server.engine()];
    let mut camera = Camera::new(&configs(), 1);
    let (here, there) = (camera.nets(&mut small), camera.nets(&mut large));
    controls
        .memory
        .store(controls.allocated() + 100_000, Ordering::Relaxed);
    camera.next(2000, 0.0);
    let failed = large
        .train(&camera.steps(&there))
        .and_then(|_| large.checkpoint(there[1]));
    let error = message(failed.unwrap_err());
    assert!(error.contains("memory left"), "{error}");
    camera.next(2, 0.0);
    small.train(&camera.steps(&here)).unwrap();
    assert_eq!(small.checkpoint(here[0]).unwrap().steps, 1);
}

/// Frames of many cameras while the device fails; every one must go on, on the CPU, with one warning.
fn assert_survives(cameras: u64, arm: impl Fn(&Controls) + Sync) {
    let (server, controls) = start();
    let frames = Barrier::new(cameras as usize);
    let failures = crowd(cameras, |seed| {
        let mut engine = WithFallback::new(server.engine());
        let mut camera = Camera::new(&configs(), seed);
        let nets = camera.nets(&mut engine);
        let mut failures = Vec::new();
        for frame in 0..6 {
            if frame == 3 && frames.wait().is_leader() {
                arm(&controls);
            }
            camera.next(2, 0.0);
            let maps = engine.infer(&camera.scores(&nets)).unwrap();
            assert!(maps.len() == 2 && maps.iter().flatten().all(|v| v.is_finite()));
            engine.train(&camera.steps(&nets)).unwrap();
            failures.extend(engine.take_failure());
        }
        failures
    });
    for (camera, failures) in failures.iter().enumerate() {
        assert!(failures.len() <= 1, "camera {camera}: {failures:?}");
    }
    let failed: Vec<&String> = failures.iter().flatten().collect();
    assert_eq!(failed.len(), cameras as usize);
    assert!(
        failed
            .iter()
            .all(|reason| reason.starts_with("injected fault in ")),
        "{failed:?}"
    );
    // New clients get an error at once.
    let error = message(
        server
            .engine()
            .create(&motion(), &initial(&motion(), 1))
            .unwrap_err(),
    );
    assert!(error.starts_with("injected fault in "), "{error}");
}

#[test]
fn every_camera_moves_to_the_cpu_when_a_launch_fails() {
    assert_survives(50, |controls| controls.launches.store(1, Ordering::Relaxed));
}

#[test]
fn every_camera_moves_to_the_cpu_when_a_kernel_fails() {
    assert_survives(50, |controls| controls.waits.store(2, Ordering::Relaxed));
}

#[test]
fn a_device_that_does_not_answer_is_given_up() {
    let (device, controls) = Emulated::new();
    let server = ServerHandle::start_with(device, Duration::from_millis(100)).unwrap();
    let mut engine = server.engine();
    let mut camera = Camera::new(&configs(), 1);
    let nets = camera.nets(&mut engine);
    camera.next(2, 0.0);
    controls.set_hang(Kernel::Score, true);
    let error = message(engine.infer(&camera.scores(&nets)).unwrap_err());
    assert_eq!(error, "the GPU has not answered for 0.1 s");
    let start = Instant::now();
    assert_eq!(message(engine.train(&camera.steps(&nets)).unwrap_err()), error);
    assert_eq!(message(engine.checkpoint(nets[0]).unwrap_err()), error);
    drop((engine, server));
    assert!(
        start.elapsed() < Duration::from_millis(90),
        "nothing waits for the device again"
    );
    // What is on the device is not freed, nor used for anything else.
    assert!(controls.allocated() > 0);
    controls.set_hang(Kernel::Score, false);
}

#[test]
fn a_long_queue_is_no_failure() {
    let (device, controls) = Emulated::new();
    controls.delay.store(100_000, Ordering::Relaxed);
    let server = ServerHandle::start_with(device, Duration::from_millis(2500)).unwrap();
    // Steps of thirty cameras, two jobs a launch: far more than two and a half seconds.
    let cameras = crowd(30, |seed| watch(&mut server.engine(), seed, 2).len());
    assert_eq!(cameras, [5; 30]);
}

#[test]
fn a_forked_process_fails_at_once_and_harms_nothing() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    let (server, _controls) = start();
    let mut engine = server.engine();
    let mut camera = Camera::new(&configs(), 1);
    let nets = camera.nets(&mut engine);
    camera.next(2, 0.0);
    // SAFETY: the child only calls what is tested, and ends without running anything of the parent's.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            // Not through the engine: its errors may take backtraces, and with them locks that other tests held.
            let failed = |result: Result<(), String>| result.is_err_and(|reason| reason.contains("forked"));
            let all = failed(server.check()) && failed(server.wait(Kernel::Score, &Ticket::new(1)));
            drop((engine, server));
            // SAFETY: ends the process.
            unsafe { nix::libc::_exit(if all { 0 } else { 1 }) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            engine.infer(&camera.scores(&nets)).unwrap();
        }
    }
}

#[test]
fn nets_of_one_shape_share_a_descriptor() {
    let (server, _) = start();
    let plan = |config: &VaeConfig, batch| server.plan(config, Purpose::Training { batch }).unwrap();
    let first = plan(&motion(), 2);
    assert!(Arc::ptr_eq(&first, &plan(&motion(), 2)));
    assert!(!Arc::ptr_eq(&first, &plan(&motion(), 3)));
    assert!(!Arc::ptr_eq(&first, &plan(&appearance(), 2)));
}

#[test]
fn inputs_of_the_wrong_size_are_errors() {
    let (server, _) = start();
    let mut engine: CudaEngine<Emulated> = server.engine();
    let mut camera = Camera::new(&configs(), 1);
    let nets = camera.nets(&mut engine);
    camera.next(2, 0.0);
    camera.target[1].pop();
    assert!(engine.infer(&camera.scores(&nets)).is_err());
    camera.next(2, 0.0);
    camera.batches[0].noise.pop();
    assert!(engine.train(&camera.steps(&nets)).is_err());
    let swapped = [nets[0], nets[0]];
    camera.next(2, 0.0);
    assert!(engine.train(&camera.steps(&swapped)).is_err());
    engine.infer(&camera.scores(&nets)).unwrap();
}

#[test]
fn the_try_out_accepts_a_device_that_computes_what_the_cpu_does() {
    let (server, controls) = start();
    let measured = try_out(server.engine()).unwrap();
    assert!(!measured.device.is_zero() && !measured.cpu.is_zero());
    controls.waits.store(3, Ordering::Relaxed);
    assert!(try_out(server.engine()).is_err());
}

#[test]
fn blocks_of_an_arena_never_overlap_and_all_memory_goes_back() {
    let (device, controls) = Emulated::new();
    let arena = Arena::new(Arc::new(device), Memory::Host, 4096, 1);
    let mut rng = Rng::seed_from_u64(1);
    let mut blocks = Vec::new();
    for i in 0..4000 {
        if blocks.is_empty() || rng.random_bool(0.55) {
            let floats = if rng.random_bool(0.01) {
                10_000
            } else {
                rng.random_range(0..700)
            };
            let mut block = arena.allocate(floats).unwrap();
            assert_eq!(block.address() % 256, 0);
            // SAFETY: nothing else uses the block.
            unsafe { block.values_mut() }.fill(i as f32);
            blocks.push((i, block));
        } else {
            let (value, block) = blocks.swap_remove(rng.random_range(0..blocks.len()));
            // SAFETY: as above.
            assert!(
                unsafe { block.values() }.iter().all(|&v| v == value as f32),
                "block {value}"
            );
        }
    }
    blocks.clear();
    // One empty slab is kept.
    assert_eq!(controls.allocated(), 4 * 4096);
    controls.memory.store(4 * 4096, Ordering::Relaxed);
    let _most = arena.allocate(4000).unwrap();
    let more = arena.allocate(4000).unwrap_err();
    assert_eq!(more, DeviceError::OutOfMemory { bytes: 4 * 4096 });
    drop(_most);
    drop(arena);
    assert_eq!(controls.allocated(), 0);
}
