"""Says who may do what by signed snapshots, which a cut-off site checks and goes on using by itself."""
