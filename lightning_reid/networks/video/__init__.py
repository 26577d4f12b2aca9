"""Networks of clips: non-local networks, CF-AAN with its axial attention, and the baseline that carries them all."""
