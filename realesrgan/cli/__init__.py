"""The command line: flags, lines and bars, messages in English and Korean, exit status."""
