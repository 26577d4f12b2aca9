"""Networks of clips: non-local and axial attention, coarse to fine, temporal reduction, and the ResNets that carry them."""
