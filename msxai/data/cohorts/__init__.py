"""Who is in a study: tables, BIDS and ADNI folders, splits, confounds."""
