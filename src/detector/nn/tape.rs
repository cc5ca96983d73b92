//! The way back through a training step.
//!
//! Candle's own walk adds every gradient to a tensor of zeros, and large ones in a pool of threads. Here the operations
//! are Candle's custom operations all the same, with their `bwd`; only the walk is another: it hands gradients on, and
//! adds, in this thread, where two meet.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use candle_core::shape::ShapeWithOneHole;
use candle_core::{CustomOp1, CustomOp2, CustomOp3, Result, Tensor, TensorId};

use super::pass::pass;
use super::storage::add;

type Op1 = Arc<Box<dyn CustomOp1 + Send + Sync>>;
type Op2 = Arc<Box<dyn CustomOp2 + Send + Sync>>;
type Op3 = Arc<Box<dyn CustomOp3 + Send + Sync>>;

/// An operation and what it was applied to.
enum Operation {
    Reshape(Tensor),
    One(Tensor, Op1),
    Two([Tensor; 2], Op2),
    Three([Tensor; 3], Op3),
}

struct Step {
    operation: Operation,
    result: Tensor,
}

thread_local!(static RECORDING: RefCell<Option<Vec<Step>>> = const { RefCell::new(None) });

/// Operations on trained values, in their order.
pub(crate) struct Tape(Vec<Step>);

impl Tape {
    /// Runs `forward` and records the operations of this module's layers and losses that lead from trained
    /// values to its result. Recordings do not nest: one inside leaves the outer one's tape empty.
    pub(crate) fn record<R, E>(
        forward: impl FnOnce() -> std::result::Result<R, E>,
    ) -> std::result::Result<(R, Self), E> {
        RECORDING.set(Some(Vec::new()));
        let result = forward();
        let steps = RECORDING.take().unwrap_or_default();
        Ok((result?, Self(steps)))
    }

    /// Differentiates `loss`; layers add the gradients of weight and bias to their slots.
    ///
    /// Gives the gradients of everything else that no recorded operation made: of variables, and of results of
    /// other operations, where the walk ends too early.
    pub(super) fn backward(self, loss: &Tensor) -> Result<HashMap<TensorId, Tensor>> {
        let mut gradients = HashMap::from([(loss.id(), ones(loss)?)]);
        for step in self.0.into_iter().rev() {
            let Some(gradient) = gradients.remove(&step.result.id()) else {
                continue;
            };
            for (tensor, part) in step.backward(&gradient)? {
                match gradients.entry(tensor) {
                    Entry::Vacant(entry) => {
                        entry.insert(part);
                    }
                    Entry::Occupied(mut entry) => {
                        let sum = sum(entry.get(), &part)?;
                        entry.insert(sum);
                    }
                }
            }
        }
        Ok(gradients)
    }
}

impl Step {
    /// What each argument gets of the result's gradient.
    fn backward(&self, gradient: &Tensor) -> Result<Vec<(TensorId, Tensor)>> {
        let result = &self.result;
        let mut parts = Vec::with_capacity(3);
        let mut give = |to: &Tensor, part: Option<Tensor>| parts.extend(part.map(|part| (to.id(), part)));
        match &self.operation {
            Operation::Reshape(x) => give(x, Some(gradient.reshape(x.shape())?)),
            Operation::One(x, op) => give(x, op.bwd(x, result, gradient)?),
            Operation::Two([a, b], op) => {
                let (da, db) = op.bwd(a, b, result, gradient)?;
                give(a, da);
                give(b, db);
            }
            Operation::Three([a, b, c], op) => {
                let (da, db, dc) = op.bwd(a, b, c, result, gradient)?;
                give(a, da);
                give(b, db);
                give(c, dc);
            }
        }
        Ok(parts)
    }
}

/// As [`Tensor::apply_op1`], recorded.
pub(super) fn apply1(x: &Tensor, op: impl CustomOp1 + Send + Sync + 'static) -> Result<Tensor> {
    let op: Op1 = Arc::new(Box::new(op));
    let result = x.apply_op1_arc(op.clone())?;
    note(&result, || Operation::One(x.clone(), op));
    Ok(result)
}

/// As [`Tensor::apply_op2`], recorded.
pub(super) fn apply2(a: &Tensor, b: &Tensor, op: impl CustomOp2 + Send + Sync + 'static) -> Result<Tensor> {
    let op: Op2 = Arc::new(Box::new(op));
    let result = a.apply_op2_arc(b, op.clone())?;
    note(&result, || Operation::Two([a.clone(), b.clone()], op));
    Ok(result)
}

/// As [`Tensor::apply_op3`], recorded.
pub(super) fn apply3([a, b, c]: [&Tensor; 3], op: impl CustomOp3 + Send + Sync + 'static) -> Result<Tensor> {
    let op: Op3 = Arc::new(Box::new(op));
    let result = a.apply_op3_arc(b, c, op.clone())?;
    note(&result, || {
        Operation::Three([a.clone(), b.clone(), c.clone()], op)
    });
    Ok(result)
}

/// As [`Tensor::reshape`], recorded.
pub(crate) fn reshape(x: &Tensor, shape: impl ShapeWithOneHole) -> Result<Tensor> {
    let x = x.contiguous()?;
    let result = x.reshape(shape)?;
    note(&result, || Operation::Reshape(x));
    Ok(result)
}

fn note(result: &Tensor, operation: impl FnOnce() -> Operation) {
    if !result.track_op() {
        return;
    }
    RECORDING.with_borrow_mut(|recording| {
        if let Some(steps) = recording {
            steps.push(Step {
                operation: operation(),
                result: result.clone(),
            });
        }
    });
}

fn ones(like: &Tensor) -> Result<Tensor> {
    pass(like.shape(), [like], |[like]| vec![1.0; like.len()])
}

fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    pass(a.shape(), [a, b], |[a, b]| {
        let mut sum = a.to_vec();
        add(&mut sum, b);
        sum
    })
}
