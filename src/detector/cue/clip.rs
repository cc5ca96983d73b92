//! The last inputs of a net with a temporal layer, for clips to train on.

use std::collections::VecDeque;
use std::iter::{once, repeat_n};

use crate::detector::engine::StateUpdate;
use crate::detector::frame::Step;

/// Steps of a temporal layer, and the images before the last one. There is a step every tick, or every frame where there
/// are fewer, so that the layer has the same dynamics at any frame rate.
#[derive(Debug)]
pub(super) struct Clip<T> {
    /// Images of a clip; 1 without a temporal layer.
    len: usize,
    /// The last steps before the current image, oldest first.
    previous: VecDeque<Vec<T>>,
    /// Ticks since the last step; `None` before the first one.
    waited: Option<f64>,
    update: StateUpdate,
    /// Training steps since a clip was offered to the replay.
    trained: usize,
}

impl<T> Clip<T> {
    pub(super) fn new(len: usize) -> Self {
        Self {
            len,
            previous: VecDeque::new(),
            waited: None,
            update: StateUpdate::default(),
            trained: 0,
        }
    }

    /// Images of a clip.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the image of the previous frame, if that was a step; to be called before it is overwritten.
    pub(super) fn keep_previous(&mut self, image: impl FnOnce() -> Vec<T>) {
        if !std::mem::take(&mut self.update.advance) || self.len == 1 {
            return;
        }
        if self.previous.len() + 1 == self.len {
            self.previous.pop_front();
        }
        self.previous.push_back(image());
    }

    /// Takes the time of the next frame.
    pub(super) fn follow(&mut self, step: Step) {
        if step.is_gap() {
            self.restart();
        }
        let waited = self.waited.map(|waited| waited + step.ticks);
        let advance = waited.is_none_or(|waited| waited > 0.99);
        self.update = StateUpdate {
            restart: waited.is_none(),
            advance,
        };
        self.waited = Some(waited.filter(|_| !advance).unwrap_or(0.0));
    }

    /// What the current image does to the layer's state.
    pub(super) fn update(&self) -> StateUpdate {
        self.update
    }

    /// The next frame does not follow.
    pub(super) fn restart(&mut self) {
        self.previous.clear();
        self.waited = None;
        self.update = StateUpdate::default();
        self.trained = 0;
    }

    /// Whether there are enough images for a clip that ends with the current one.
    pub(super) fn is_complete(&self) -> bool {
        self.previous.len() + 1 == self.len
    }

    /// The images before the current one, oldest first.
    pub(super) fn previous(&self) -> impl Iterator<Item = &[T]> {
        self.previous.iter().map(Vec::as_slice)
    }

    /// The clip that ends with `current`, oldest image first. Of one that is not complete, the oldest is repeated.
    pub(super) fn images<'a>(&'a self, current: &'a [T]) -> impl Iterator<Item = &'a [T]> {
        let missing = self.len - 1 - self.previous.len();
        let oldest = self.previous.front().map_or(current, Vec::as_slice);
        repeat_n(oldest, missing)
            .chain(self.previous())
            .chain(once(current))
    }

    /// Counts a training step. Whether its clip is to be offered to the replay: one of as many steps as it has images, so
    /// that the same number of images reaches as far back as without a temporal layer.
    pub(super) fn is_offered(&mut self) -> bool {
        self.trained += 1;
        let due = self.trained >= self.len;
        if due {
            self.trained = 0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::frame::TICK;

    fn step(seconds: f64) -> Step {
        Step {
            seconds,
            ticks: seconds / TICK,
        }
    }

    /// Frames numbered from 0; the updates, and the clip of the last one.
    fn run(len: usize, interval: f64, frames: u32) -> (Vec<StateUpdate>, Vec<u32>, bool) {
        let mut clip = Clip::new(len);
        let updates = (0..frames).map(|i| {
            clip.keep_previous(|| vec![i - 1]);
            clip.follow(step(interval));
            clip.update()
        });
        let updates = updates.collect();
        let images = clip.images(&[frames - 1]).map(|image| image[0]).collect();
        (updates, images, clip.is_complete())
    }

    #[test]
    fn there_is_a_step_every_tick_or_every_frame() {
        for (interval, frames, want) in [(0.02, 21, 5), (0.1, 21, 21), (0.5, 21, 21)] {
            let (updates, ..) = run(4, interval, frames);
            let steps = updates.iter().filter(|update| update.advance).count();
            assert_eq!(steps, want, "every {interval} s");
            let restarts: Vec<bool> = updates.iter().map(|update| update.restart).collect();
            assert!(restarts[0] && !restarts[1..].contains(&true));
        }
    }

    #[test]
    fn a_clip_is_the_last_steps_and_the_current_image() {
        assert_eq!(run(4, 0.1, 9).1, [5, 6, 7, 8]);
        assert_eq!(run(4, 0.05, 9).1, [2, 4, 6, 8]);
        assert_eq!(run(4, 0.05, 10).1, [4, 6, 8, 9]);
        assert_eq!(run(4, 0.1, 2), (run(4, 0.1, 2).0, vec![0, 0, 0, 1], false));
        assert!(run(4, 0.1, 4).2);
        let (_, images, complete) = run(1, 0.1, 3);
        assert_eq!((images, complete), (vec![2], true));
    }

    #[test]
    fn a_gap_and_a_restart_begin_a_new_clip() {
        let gap = Step {
            seconds: 1.0,
            ticks: 1.0,
        };
        for restart in [false, true] {
            let mut clip = Clip::new(3);
            for i in 0..5 {
                clip.keep_previous(|| vec![i]);
                clip.follow(step(0.1));
            }
            assert!(clip.is_complete() && !clip.update().restart);
            clip.keep_previous(|| vec![5]);
            match restart {
                true => {
                    clip.restart();
                    clip.follow(step(0.1));
                }
                false => clip.follow(gap),
            }
            assert!(!clip.is_complete() && clip.update().restart);
            assert_eq!(clip.images(&[6]).collect::<Vec<_>>(), [[6], [6], [6]]);
        }
    }

    #[test]
    fn the_replay_is_offered_clips_that_do_not_overlap() {
        let mut clip = Clip::<u8>::new(3);
        let offered: Vec<bool> = (0..7).map(|_| clip.is_offered()).collect();
        assert_eq!(offered, [false, false, true, false, false, true, false]);
        assert!(Clip::<u8>::new(1).is_offered());
    }
}
