"""Programs beside the main one: doctor, tune, benchmark, stability."""
