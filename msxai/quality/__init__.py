"""Do heatmaps show what the network uses? Localisation, faithfulness, robustness, randomisation."""
