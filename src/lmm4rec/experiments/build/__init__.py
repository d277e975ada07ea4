"""From a checked conf to objects: data, encoders, features, recommenders, bundles."""
