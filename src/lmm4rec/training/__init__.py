"""One loop that trains every objective, ranking or contrastive."""
