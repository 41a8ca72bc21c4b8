"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from training.methods.epochs import train_epochs

fit = train_epochs
