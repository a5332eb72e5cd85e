"""Benchmarks, as ratios measured side by side in one run: ``python -m kdref.lab.bench NAME``.

A benchmark is a module here with ``run(repeats) -> str``, which returns Markdown. Timing helpers are in ``timing``.
"""
