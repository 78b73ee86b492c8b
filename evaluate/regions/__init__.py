"""What region layers allow, whatever the features are: bounds on labels, and measures against outlines by hand."""
