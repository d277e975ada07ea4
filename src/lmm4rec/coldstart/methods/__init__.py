"""Methods for items without interactions, one file each, trained on the vectors of a trained model and on content."""
