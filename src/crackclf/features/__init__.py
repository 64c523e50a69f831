"""What a frozen base makes of images: extracted once and kept."""
