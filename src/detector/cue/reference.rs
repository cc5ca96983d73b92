//! The nets against PyTorch: loss and gradients of whole nets with weights that a formula gives.
//!
//! Reference values are printed by this script:
//!
//! ```python
//! import torch
//! import torch.nn.functional as F
//! torch.set_default_dtype(torch.float64)
//!
//! def wave(shape, rate, phase=0.0):
//!     count = 1
//!     for s in shape:
//!         count *= s
//!     return torch.sin(rate * torch.arange(count) + phase).reshape(shape)
//!
//! class Net:
//!     def __init__(self):
//!         self.params = []
//!     def add(self, *shape):
//!         p = (0.2 * wave(shape, 0.7, len(self.params))).requires_grad_()
//!         self.params.append(p)
//!         return p
//!     def conv(self, k, i, o):
//!         return self.add(k, k, i, o), self.add(o)
//!     def linear(self, i, o):
//!         return self.add(i, o), self.add(o)
//!     def tell(self, loss):
//!         loss.backward()
//!         print('loss', loss.item())
//!         for p in self.params:
//!             g = p.grad.reshape(-1)
//!             print('%.7e' % (g * torch.cos(0.5 * torch.arange(len(g)))).sum().item())
//!
//! act = lambda x: F.leaky_relu(x, 0.1)
//! def conv(x, wb, stride=1):
//!     w, b = wb
//!     return F.conv2d(x, w.permute(3, 2, 0, 1), b, stride, w.shape[0] // 2)
//! student = lambda r, scale: (2 * torch.log(1 + r * r / (3 * scale * scale))).mean()
//! kl = lambda m, lv, axis: (0.5 * (m * m + lv.exp() - 1 - lv)).sum(axis).mean()
//! nchw = lambda x: x.permute(0, 3, 1, 2)
//!
//! def motion():
//!     n = Net()
//!     e = [n.conv(3, 4, 16), n.conv(3, 16, 24), n.conv(3, 24, 24)]
//!     mean, lv, widen = n.conv(1, 24, 4), n.conv(1, 24, 4), n.conv(1, 4, 24)
//!     refine, predict = n.conv(3, 26, 16), n.conv(3, 16, 2)
//!     y, c = nchw(wave((2, 5, 6, 2), 0.37)), nchw(wave((2, 5, 6, 2), 0.23))
//!     x = torch.cat([y, c], 1)
//!     x = act(conv(x, e[0])); x = act(conv(x, e[1], 2)); x = act(conv(x, e[2]))
//!     m, v = conv(x, mean), conv(x, lv).clamp(-8, 3)
//!     z = m + (v / 2).exp() * nchw(wave((2, 3, 3, 4), 0.91))
//!     x = act(conv(z, widen))
//!     x = F.interpolate(x, scale_factor=2)[:, :, :5, :6]
//!     x = conv(act(conv(torch.cat([x, c], 1), refine)), predict)
//!     n.tell(2 * student(x - y, 1.0) + 0.1 * kl(m, v, 1))
//!
//! def appearance():
//!     n = Net()
//!     e = [n.conv(3, 3, 4), n.conv(3, 4, 6)]
//!     mean, lv, widen = n.linear(12, 3), n.linear(12, 3), n.linear(3, 12)
//!     d = [n.conv(3, 6, 4), n.conv(3, 4, 3)]
//!     scene = n.add(1, 4, 8, 3)
//!     p = nchw(wave((2, 4, 8, 3), 0.37))
//!     x = act(conv(p, e[0], 2)); x = act(conv(x, e[1], 2))
//!     x = x.permute(0, 2, 3, 1).reshape(2, 12)
//!     m, v = x @ mean[0] + mean[1], (x @ lv[0] + lv[1]).clamp(-10, 3)
//!     z = m + (v / 2).exp() * wave((2, 3), 0.91)
//!     x = nchw(act(z @ widen[0] + widen[1]).reshape(2, 1, 2, 6))
//!     x = act(conv(F.interpolate(x, scale_factor=2), d[0]))
//!     x = conv(F.interpolate(x, scale_factor=2), d[1]) + nchw(scene)
//!     n.tell(student(x - p, 0.2) + 0.03 * kl(m, v, 1))
//!
//! motion()
//! appearance()
//! ```

use candle_core::{Device, Result, Tensor};

use crate::detector::nn::{Parameters, Tape};

/// `sin(rate * i + phase)`, row by row.
fn sine(count: usize, rate: f64, phase: f64) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| (rate * i as f64 + phase).sin())
}

/// `sin(rate * i)` in any shape.
pub(super) fn wave(shape: &[usize], rate: f64) -> Tensor {
    let values: Vec<f32> = sine(shape.iter().product(), rate, 0.0)
        .map(|v| v as f32)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Gives a net the script's weights.
pub(super) fn set_weights(params: &Parameters) {
    for (n, (_, var)) in params.iter().enumerate() {
        let values: Vec<f32> = sine(var.elem_count(), 0.7, n as f64)
            .map(|v| (0.2 * v) as f32)
            .collect();
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
            .unwrap();
    }
}

/// Compares a loss, and the sum of each parameter's gradient times `cos(i / 2)`, with the script's; and all gradients
/// with those of Candle's own walk.
pub(super) fn assert_pytorchs(
    params: &Parameters,
    loss: impl FnOnce() -> Result<Tensor>,
    want: f64,
    slopes: &[f64],
) {
    let (loss, tape) = Tape::record(loss).unwrap();
    let got = f64::from(loss.to_scalar::<f32>().unwrap());
    assert!(
        (got - want).abs() < 1e-5 * want.abs(),
        "loss {got}, PyTorch {want}"
    );
    let gradients = params.backward(tape, &loss).unwrap().clone();
    assert_eq!(gradients, *params.backward_by_candle(&loss).unwrap());
    let mut start = 0;
    assert_eq!(params.iter().count(), slopes.len());
    for ((name, var), want) in params.iter().zip(slopes) {
        let count = var.elem_count();
        let weights = sine(count, 0.5, std::f64::consts::FRAC_PI_2);
        let gradient = &gradients[start..start + count];
        let got: f64 = gradient.iter().zip(weights).map(|(g, w)| f64::from(*g) * w).sum();
        let size: f64 = gradient.iter().map(|g| f64::from(g.abs())).sum();
        assert!(
            (got - want).abs() < 1e-4 * size.max(1e-3),
            "{name}: {got}, PyTorch {want}"
        );
        start += count;
    }
}
