"""torch.compile is optional: where it fails, training continues without it and says so."""

from __future__ import annotations

import torch

from drivetl.models.build import ModelSpec, build_model
from drivetl.models.runtime import compile_backbone

SPEC = ModelSpec("fasterrcnn_mobilenet_v2_lite_fpn", ("car",), 64, 96, 20, 10, 8, 10, 0.05, frozen_norm=True)


def test_without_a_compiler_the_model_is_unchanged_and_the_reason_is_given(monkeypatch):
    def no_compiler(module):
        def call(x):
            raise RuntimeError("Failed to find C++ compiler.\nmore lines")

        return call

    monkeypatch.setattr(torch, "compile", no_compiler)
    model = build_model(SPEC)
    message = compile_backbone(model)
    assert "not compiled: Failed to find C++ compiler. - install" in message
    assert model.backbone.body._compiled_call_impl is None


def test_with_a_compiler_the_backbone_is_compiled_in_place_and_names_are_unchanged(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)  # lazily, and here not at all
    model = build_model(SPEC)
    names = list(model.state_dict())
    assert "compiled by torch.compile" in compile_backbone(model)
    assert model.backbone.body._compiled_call_impl is not None
    assert list(model.state_dict()) == names
