/** Models look at pictures of about this size anyhow; a photo of a phone is forty times as many bytes. */
const LONGEST_SIDE_PX = 1280;
const JPEG_QUALITY = 0.85;
export const PICTURES_A_QUESTION = 4;

/** A picture file as a `data:` URL, made smaller where it is large. Raises when the browser cannot read it. */
export async function pictureFrom(file: Blob): Promise<string> {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("no canvas");
  context.fillStyle = "#fff"; // JPEG has no transparency; without this it turns black
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", JPEG_QUALITY);
}
