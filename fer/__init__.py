"""Facial emotion recognition on FER-2013: data, network, training, evaluation."""
