"""Maths shared by encoders and recommenders: graphs, losses, layers."""
