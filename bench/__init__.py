"""Side-by-side measurements of the pipeline and of the harness's own cost."""
