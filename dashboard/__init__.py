"""The Streamlit dashboard. It reaches the service only through ``pmae.client``."""
