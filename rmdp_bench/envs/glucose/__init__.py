"""The glucose world: patients with type 1 diabetes, a sensor, a pump, meals.

hovorka    the model: equations, steady state, integration
patients   the population: published distributions of the parameters
days       what a day brings: meals, noise of the sensor, pulses of the pump
boluses    the clinic's rule for boluses, limits of the pump
risk       what a glucose concentration is worth
drawing    the trace, a picture
world      the environment, with its documentation
"""
