"""The command ``lightning-reid``: verbs for people who have pictures, and no script of their own. Looking and converting needs no torch."""
