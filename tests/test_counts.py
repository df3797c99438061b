"""Kernel counts of the GPU path, without a GPU (bench/counts.py)."""

from bench.counts import drawn, kernels_a_step, operations_a_step, variants_of
from fer.config import Config


def test_a_step_of_the_reports_network_is_at_most_60_kernels() -> None:
    counts = kernels_a_step(Config())
    assert counts.total() <= 60
    assert counts["pooled_forward"] == counts["pooled_backward"] == 3
    assert operations_a_step(Config()).total() > 1.5 * counts.total()


def test_100_trials_of_the_extended_space_compile_at_most_8_variants() -> None:
    variants = variants_of(drawn("extended", 100))
    assert len(variants) <= 8
    assert {name for name, *_ in variants} == {
        "pooled_forward",
        "pooled_backward",
        "gathered",
        "judged",
    }
