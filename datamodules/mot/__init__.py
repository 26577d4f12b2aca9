"""Multi-object tracking sequences (MOT) as re-ID data: their layouts, their people, the crops cut out of them."""
