"""Words in, one sentence out: one module for each verb of fmnist-sweep."""
