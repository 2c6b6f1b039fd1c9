"""How a question reads: variants that all keep to one contract (`base.Reader`)."""
