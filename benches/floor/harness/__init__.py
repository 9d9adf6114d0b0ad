"""Measures mcluster beside other servers; see ../run. Each module says what it owns."""
