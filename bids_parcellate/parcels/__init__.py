"""What is known of parcels: tables, quality, halves, reference atlases."""
