"""Live tracking of people, within a camera and across cameras."""
