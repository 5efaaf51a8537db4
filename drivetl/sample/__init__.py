"""The embedded default: a procedural city with exact boxes, masks and depth. Free of torch.

towns, street, buildings, greenery, furniture     what stands there
cars, heavy, people, actors, traffic              who moves there
world, stage                                      one drive; one moment of it in front of the camera
camera, mesh, canvas                              polygons, painted far to near into a buffer of layer numbers
light, textures, shadows, shade, render           from that buffer to a picture
labels, write, write_kitti, write_cvat, write_cityscapes
"""
