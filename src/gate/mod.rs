//! What to keep: a pure state machine from labels and times to events and verdicts.
