"""What runs in the server's own environment, where ndif is installed and steerlab is not: nothing imports it here."""
