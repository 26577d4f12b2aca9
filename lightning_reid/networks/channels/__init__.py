"""Channels that can be pruned together: their groups, what they cost, and plans that mask them or make a smaller network."""
