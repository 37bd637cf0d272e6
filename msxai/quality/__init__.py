"""Do heatmaps show what the network uses? Measures against lesions, faithfulness, robustness, randomisation."""
