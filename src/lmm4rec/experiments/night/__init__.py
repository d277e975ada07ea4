"""The night job: retrain warm, compare with yesterday's bundle, swap if not worse."""
