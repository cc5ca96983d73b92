//! Memory in slabs: thousands of nets come and go without a call of the driver each, which would stall the device.

use std::collections::BTreeMap;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::{Device, DeviceError, Memory};

/// Floats that every block is rounded up to: 256 bytes.
const GRAIN: usize = 64;

/// Locks data that a panic cannot leave inconsistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One kind of memory of one device.
#[derive(Debug)]
pub(super) struct Arena<D: Device> {
    device: Arc<D>,
    memory: Memory,
    /// Floats of a slab; larger blocks get a slab of their own.
    slab: usize,
    /// Empty slabs that are kept for what comes next.
    kept: usize,
    slabs: Mutex<Vec<Slab>>,
    abandoned: AtomicBool,
    /// A forked process must not touch the device.
    process: u32,
}

#[derive(Debug)]
struct Slab {
    address: u64,
    floats: usize,
    /// Offset -> length of every free part; no two touch.
    free: BTreeMap<usize, usize>,
}

impl Slab {
    fn is_empty(&self) -> bool {
        self.free.get(&0) == Some(&self.floats)
    }

    /// Cuts `floats` off the first free part that has as many.
    fn take(&mut self, floats: usize) -> Option<usize> {
        let (&offset, &length) = self.free.iter().find(|&(_, &length)| length >= floats)?;
        self.free.remove(&offset);
        if length > floats {
            self.free.insert(offset + floats, length - floats);
        }
        Some(offset)
    }

    /// Makes a part free, and one with its free neighbours.
    fn give_back(&mut self, mut offset: usize, mut length: usize) {
        if let Some(next) = self.free.remove(&(offset + length)) {
            length += next;
        }
        let before = self.free.range(..offset).next_back();
        if let Some((&before, &floats)) = before.filter(|&(before, floats)| before + floats == offset) {
            self.free.remove(&before);
            (offset, length) = (before, floats + length);
        }
        self.free.insert(offset, length);
    }
}

impl<D: Device> Arena<D> {
    /// Slabs of `slab` floats, made when they are needed; of empty ones so many are kept.
    pub(super) fn new(device: Arc<D>, memory: Memory, slab: usize, kept: usize) -> Arc<Self> {
        Arc::new(Self {
            device,
            memory,
            slab: slab.next_multiple_of(GRAIN),
            kept,
            slabs: Mutex::default(),
            abandoned: AtomicBool::new(false),
            process: process::id(),
        })
    }

    /// Memory for `floats` floats, of no particular value, aligned to 256 bytes.
    pub(super) fn allocate(self: &Arc<Self>, floats: usize) -> Result<Block<D>, DeviceError> {
        let floats = floats.max(1).next_multiple_of(GRAIN);
        let mut slabs = lock(&self.slabs);
        let fit = slabs
            .iter_mut()
            .find_map(|slab| Some(slab.address + 4 * slab.take(floats)? as u64));
        let address = match fit {
            Some(address) => address,
            None => {
                let size = self.slab.max(floats);
                let address = self.device.allocate(self.memory, 4 * size)?;
                let mut slab = Slab {
                    address,
                    floats: size,
                    free: BTreeMap::from([(0, size)]),
                };
                slab.take(floats);
                slabs.push(slab);
                address
            }
        };
        Ok(Block {
            arena: self.clone(),
            address,
            floats,
        })
    }

    /// Bytes of all slabs.
    #[cfg(feature = "cuda")]
    pub(super) fn bytes(&self) -> usize {
        lock(&self.slabs).iter().map(|slab| 4 * slab.floats).sum()
    }

    /// From now on no memory goes back to the device: it is lost, and so is its memory.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) || self.process != process::id()
    }

    fn free(&self, address: u64, floats: usize) {
        if self.is_abandoned() {
            return;
        }
        let mut slabs = lock(&self.slabs);
        let holds = |slab: &Slab| (slab.address..slab.address + 4 * slab.floats as u64).contains(&address);
        let Some(index) = slabs.iter().position(holds) else {
            return;
        };
        let slab = &mut slabs[index];
        slab.give_back((address - slab.address) as usize / 4, floats);
        // Blocks that need a slab of their own are rare and large.
        let empty = slabs.iter().filter(|slab| slab.is_empty()).count();
        if slabs[index].is_empty() && (empty > self.kept || slabs[index].floats > self.slab) {
            let slab = slabs.swap_remove(index);
            // SAFETY: the slab came from this device, and all of it is free.
            unsafe { self.device.free(self.memory, slab.address) };
        }
    }
}

impl<D: Device> Drop for Arena<D> {
    fn drop(&mut self) {
        if self.is_abandoned() {
            return;
        }
        for slab in lock(&self.slabs).drain(..) {
            // SAFETY: every block holds the arena, so none is left.
            unsafe { self.device.free(self.memory, slab.address) };
        }
    }
}

/// A part of an [`Arena`].
#[derive(Debug)]
pub(super) struct Block<D: Device> {
    arena: Arc<Arena<D>>,
    address: u64,
    floats: usize,
}

impl<D: Device> Block<D> {
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Floats that it has room for.
    pub(super) fn floats(&self) -> usize {
        self.floats
    }

    /// Address of float `offset`.
    pub(super) fn at(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.floats, "{offset} of {}", self.floats);
        self.address + 4 * offset as u64
    }

    /// The values of a block of host memory.
    ///
    /// # Safety
    /// Nothing in flight writes to the block.
    pub(super) unsafe fn values(&self) -> &[f32] {
        debug_assert_eq!(self.arena.memory, Memory::Host);
        // SAFETY: the block has so many floats, aligned; any bits are a float.
        unsafe { std::slice::from_raw_parts(self.address as *const f32, self.floats) }
    }

    /// The same, for writing.
    ///
    /// # Safety
    /// Nothing in flight uses the block.
    pub(super) unsafe fn values_mut(&mut self) -> &mut [f32] {
        debug_assert_eq!(self.arena.memory, Memory::Host);
        // SAFETY: as above, and the block is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.address as *mut f32, self.floats) }
    }
}

impl<D: Device> Drop for Block<D> {
    fn drop(&mut self) {
        self.arena.free(self.address, self.floats);
    }
}
