//! Figures of merit for scores against ground truth.
