"""Many runs: methods beside each other, settings tried."""
