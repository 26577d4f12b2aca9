"""The page of ``lightning-reid report``: one HTML file that asks nobody for anything."""
