"""Muon for convolutions: Keras' own takes matrices alone, and a convolution's kernel is one, too.

This module imports Keras, so it is imported where a model is trained.
"""

from __future__ import annotations

from typing import Any

import keras


class KernelMuon(keras.optimizers.Muon):  # type: ignore[misc]
    """Muon (Jordan et al., 2024) on the kernels of hidden layers, and AdamW on all else: offsets, scales, the output.

    A kernel (height, width, channels in, channels out) is orthogonalized as the matrix of its last axis against all
    others. Each update has the root mean square of Adam's (Liu et al., 2025), so rates are in the range of Adam's.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) < 2 or any(name in variable.path for name in self.exclude_layers)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign(m, keras.ops.add(gradient, m * self.momentum))
        direction = keras.ops.add(gradient, self.momentum * m) if self.nesterov else m
        matrix = keras.ops.reshape(direction, (-1, variable.shape[-1]))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, keras.ops.reshape(update, variable.shape))
