"""The queue drained from inside the database, by the procedure flywheel.work()."""
