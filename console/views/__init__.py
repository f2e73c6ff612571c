"""Small views: pages answer GET, actions POST, one URL a verb."""
