"""What leaves a run and is used: bundles that recommend without the training code."""
