"""The stability programs: ``batch_process_test.py`` and ``long_running_test.py``."""
