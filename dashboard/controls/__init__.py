"""Controls: what the reader chooses, as Streamlit widgets."""
