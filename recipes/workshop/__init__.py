"""What recipes share: options, stages that are not run twice, the folder of a run, tables, curves and reports."""
