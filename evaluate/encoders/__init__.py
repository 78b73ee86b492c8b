"""Pictures in, embedding maps out: trained networks of any origin, and raw colour beside them."""
